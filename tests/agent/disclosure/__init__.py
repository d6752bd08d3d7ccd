"""What leaves of what is measured on the owner's rows."""
