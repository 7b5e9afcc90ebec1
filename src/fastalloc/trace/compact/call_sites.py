"""Functions that allocate from one kmem_cache, for allocations whose event does not name it.

Until 6.12 kmem_cache_alloc gives no name, and an object that kfree() frees, or RCU in bulk, or nobody, never gets one:
then caches of equal sizes cannot be told apart. Each of these functions has one kmem_cache_alloc() of the sizes given
by the event. ``since``: the first kernel whose function does so; a function that did something else before fires
another tracepoint (kmem_cache_alloc instead of kmalloc) or shows other sizes.
"""

from typing import NamedTuple


class Site(NamedTuple):
    """``caches``: names by kernel, the last one first; ``since`` and ``file``: where to read it."""

    caches: tuple[str, ...]
    since: str
    file: str


SITES = {
    "kmalloc_reserve": Site(("skbuff_small_head",), "6.3", "net/core/skbuff.c"),
    "napi_skb_cache_get": Site(("skbuff_head_cache",), "5.13", "net/core/skbuff.c"),
    "skb_clone": Site(("skbuff_head_cache",), "2.6", "net/core/skbuff.c"),
    "skb_ext_maybe_cow": Site(("skbuff_ext_cache",), "5.0", "net/core/skbuff.c"),
    "dst_alloc": Site(("rtable", "ip_dst_cache"), "2.6", "net/core/dst.c, net/ipv4/route.c; rtable from 6.9"),
    "inet_bind_bucket_create": Site(("tcp_bind_bucket",), "2.6", "net/ipv4/inet_hashtables.c"),
    "inet_bind2_bucket_create": Site(("tcp_bind2_bucket",), "6.1", "net/ipv4/inet_hashtables.c"),
    "inet_twsk_alloc": Site(("tw_sock_TCP",), "2.6", "net/ipv4/inet_timewait_sock.c"),
    "alloc_vmap_area": Site(("vmap_area",), "5.2", "mm/vmalloc.c"),
    "pcpu_get_vm_areas": Site(("vmap_area",), "5.2", "mm/vmalloc.c"),
    "create_new_namespaces": Site(("nsproxy",), "2.6", "kernel/nsproxy.c"),
    "create_nsproxy": Site(("nsproxy",), "2.6", "kernel/nsproxy.c"),
    "locks_get_lock_context": Site(("file_lock_ctx",), "4.0", "fs/locks.c"),
    "dup_fd": Site(("files_cache",), "2.6", "fs/file.c"),
    "copy_fs_struct": Site(("fs_cache",), "2.6", "fs/fs_struct.c"),
    "alloc_pid": Site(("pid",), "2.6", "kernel/pid.c"),
    "mm_alloc": Site(("mm_struct",), "2.6", "kernel/fork.c"),
    "anon_vma_clone": Site(("anon_vma_chain",), "2.6.34", "mm/rmap.c"),
    "alloc_vfsmnt": Site(("mnt_cache",), "2.6", "fs/namespace.c"),
    "__mpol_dup": Site(("numa_policy",), "2.6.26", "mm/mempolicy.c"),
    "mpol_new": Site(("numa_policy",), "2.6", "mm/mempolicy.c"),
    "security_file_alloc": Site(("lsm_file_cache",), "5.1", "security/security.c"),
    "security_inode_alloc": Site(("lsm_inode_cache",), "5.1", "security/security.c"),
    "__d_alloc": Site(("dentry",), "2.6.38", "fs/dcache.c"),
    "alloc_inode": Site(("inode_cache",), "2.6", "fs/inode.c"),
    "alloc_empty_file": Site(("filp",), "4.19", "fs/file_table.c"),
    "__alloc_file": Site(("filp",), "4.19", "fs/file_table.c"),
    "fcntl_setlk": Site(("file_lock_cache",), "2.6", "fs/locks.c"),
    "posix_lock_inode": Site(("file_lock_cache",), "4.9", "fs/locks.c"),
    "ep_ptable_queue_proc": Site(("eventpoll_pwq",), "2.6", "fs/eventpoll.c"),
    "inotify_update_watch": Site(("inotify_inode_mark",), "2.6.36", "fs/notify/inotify/inotify_user.c"),
    "fsnotify_add_mark_locked": Site(
        ("fsnotify_inode_mark_connector", "fsnotify_mark_connector"), "4.12", "fs/notify/mark.c"
    ),
    "taskstats_exit": Site(("taskstats",), "2.6", "kernel/taskstats.c"),
    "mas_alloc_nodes": Site(("maple_node",), "6.1", "lib/maple_tree.c"),
    "radix_tree_node_alloc": Site(("radix_tree_node",), "2.6", "lib/radix-tree.c"),
    "__radix_tree_preload": Site(("radix_tree_node",), "3.12", "lib/radix-tree.c"),
    "xas_alloc": Site(("radix_tree_node",), "4.20", "lib/xarray.c"),
    "__proc_create": Site(("proc_dir_entry",), "2.6", "fs/proc/generic.c"),
    "__kernfs_new_node": Site(("kernfs_node_cache",), "4.16", "fs/kernfs/dir.c"),
    "proc_reg_open": Site(("pde_opener",), "4.17", "fs/proc/inode.c"),
    "getname_flags": Site(("names_cache",), "2.6", "fs/namei.c"),
    "seq_open": Site(("seq_file",), "4.18", "fs/seq_file.c"),
    "__sigqueue_alloc": Site(("sigqueue",), "2.6", "kernel/signal.c"),
    "__send_signal_locked": Site(("sigqueue",), "5.18", "kernel/signal.c"),
    "__khugepaged_enter": Site(("khugepaged_mm_slot",), "2.6.38", "mm/khugepaged.c"),
    "alloc_task_exec_state": Site(("task_exec_state",), "7.2", "kernel/fork.c"),
    "pidfs_register_pid_gfp": Site(("pidfs_attr_cache",), "7.0", "fs/pidfs.c"),
}


def function_of(call_site: str) -> str:
    """The function of a call site: no offset, module, or suffix that a compiler adds to a part or a clone."""
    return call_site.lstrip(".").split("+")[0].split(" ")[0].split(".")[0]  # ppc64 puts a dot in front


__all__ = ["SITES", "Site", "function_of"]
