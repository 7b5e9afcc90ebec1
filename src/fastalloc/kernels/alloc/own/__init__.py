"""An allocator that the user wrote: its pages and objects in the book, and calls into its machine code."""
