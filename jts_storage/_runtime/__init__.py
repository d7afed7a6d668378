"""What any part may use of the process it runs in: tasks, forks, lifetimes, other processes."""
