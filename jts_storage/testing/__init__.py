"""What a service needs to test itself against real storage."""
