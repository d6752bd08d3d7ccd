"""What the commands of ``fedloom agent`` print, in words."""
