"""One training in several processes: its ranks, the group that they form, and what they must have alike.

Rank 0 is the child that the parent knows. It starts the other ranks, passes them its ``train`` orders, and ends if one
of them ends. They write no files and report nothing. Everything else than training is done by rank 0 alone.
"""
