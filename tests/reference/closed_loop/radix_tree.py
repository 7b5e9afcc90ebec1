"""Radix trees [lib/radix-tree.c of 2.6.25]: 64 slots a node, a stock of 11 nodes a CPU that insertions take from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FANOUT = 64
LONGEST_PATH = 11  # of a 64-bit index


@dataclass(eq=False)
class Node:
    """A node: the object that it is, and what stands in its slots."""

    memory: Any
    slots: dict[int, Any] = field(default_factory=dict)


@dataclass(eq=False)
class RadixTree:
    """Which indices are in it, as nodes. A height of 0 holds index 0 alone, without a node."""

    take: Callable[[], Any]  # a node from the stock
    give: Callable[[Any], None]  # a node to call_rcu
    least_height: int = 0  # 1: index 0 is no special case
    height: int = 0
    root: Any = None

    def nodes_above(self, index: int) -> int:
        """Levels that an index needs."""
        levels = self.least_height
        while index >= FANOUT**levels:
            levels += 1
        return levels

    def insert(self, index: int) -> None:
        """radix_tree_insert: first the height, then what is missing on the way down."""
        wanted = self.nodes_above(index)
        if self.root is None:
            self.height = max(self.height, wanted)
        while self.height < wanted:  # radix_tree_extend: one new root a level
            self.root = Node(self.take(), {0: self.root})
            self.height += 1
        if self.height == 0:
            self.root = index
            return
        if self.root is None:
            self.root = Node(self.take())
        node = self.root
        for level in range(self.height - 1, 0, -1):
            slot = index // FANOUT**level % FANOUT
            if slot not in node.slots:
                node.slots[slot] = Node(self.take())
            node = node.slots[slot]
        assert index % FANOUT not in node.slots
        node.slots[index % FANOUT] = index

    def delete(self, index: int) -> None:
        """radix_tree_delete: empty nodes go, upwards; a root with one child, in slot 0, goes too."""
        if self.height == 0:
            assert self.root == index
            self.root = None
            return
        path = [self.root]
        for level in range(self.height - 1, 0, -1):
            path.append(path[-1].slots[index // FANOUT**level % FANOUT])
        for level, node in enumerate(reversed(path)):
            del node.slots[index // FANOUT**level % FANOUT]
            if node.slots:
                if node is self.root:
                    self.shrink()
                return
            self.give(node.memory)
        self.root = None
        self.height = 0

    def shrink(self) -> None:
        """radix_tree_shrink."""
        while self.height > self.least_height and list(self.root.slots) == [0]:
            self.give(self.root.memory)
            self.root = self.root.slots[0]
            self.height -= 1

    def nodes(self) -> int:
        """How many nodes it has."""
        level, found = [self.root] if isinstance(self.root, Node) else [], 0
        while level:
            found += len(level)
            level = [child for node in level for child in node.slots.values() if isinstance(child, Node)]
        return found
