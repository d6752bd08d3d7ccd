"""Training and evaluation of each kind, SFT and DPO: losses, TRL's trainers, the client half of an algorithm."""
