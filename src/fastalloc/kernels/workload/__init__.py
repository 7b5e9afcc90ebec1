"""What the tasks and interrupts of a lane do."""
