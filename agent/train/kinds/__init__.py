"""Training and evaluation of each kind: SFT and DPO, by TRL's trainers."""
