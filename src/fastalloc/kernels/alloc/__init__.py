"""The page allocator, the slab allocators and mempools."""
