"""The owner's report: what a campaign gains it, measured on its own held-out rows, with nothing sent.

- ``subject``   what a report is of: an accepted campaign, the rows, and whether they can be used
- ``adapters``  the campaign's adapters on this machine, by their signed digests
- ``child``     the training child of a report, which may fetch nothing, and the files of its work
- ``start``     the adapter that the campaign starts from
- ``alone``     the model that the owner trains alone: as many rounds and steps, from the same start
- ``measuring`` the models on the rows
- ``gains``     the three numbers of an adapter that leave, if the owner wants them to
"""
