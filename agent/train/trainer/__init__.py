"""What the trainers of all kinds share: arguments, the federated mixin, losses, scoring, the reference model."""
