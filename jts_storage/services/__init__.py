"""The stack of servers beside the kit, as services of this machine."""
