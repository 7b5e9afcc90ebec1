"""Allocators driven by recorded operations."""
