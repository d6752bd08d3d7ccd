"""Questions of medical examinations and on abstracts."""
