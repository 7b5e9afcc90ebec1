"""LRU lists and swap slots [mm/swap.c, mm/swapfile.c]."""
