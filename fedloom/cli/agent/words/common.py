"""What is said alike of a campaign and of an owner's settings: which losses leave, and what others could learn."""

REPORTS = {
    "none": "no losses, and no evaluation",
    "round": "rounded mean losses, once a round",
    "live": "the loss of EACH STEP as it comes, and held-out losses in full",
}
"""What leaves of the losses, by ``policy.report``."""
COULD_LEARN = (
    "Whoever runs the coordinator can try to rebuild rows from an update, or to find out whether a row was trained on."
)
LIMITS_PROVE_NOTHING = (
    "Limits in agent.toml raise the cost of that and prove nothing: only differential privacy would bound it"
)
