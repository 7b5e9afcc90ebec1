"""Direct reclaim and kswapd [mm/vmscan.c]."""
