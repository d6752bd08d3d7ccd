"""Backups: a coordinator's data in one file, made while it runs, restored into an empty place with either database.

    archive      the file: a tar, its members, atomic writing and distrustful reading
    rows         a snapshot of a database, copied to another database of either kind
    saving       makes a backup
    restoring    restores a coordinator's data from a backup

Rows and bytes are copied separately. The rows are copied in one short transaction. The bytes of blobs never change, so
they are copied after it. If the running coordinator deletes some in between, the rows are copied again. Bytes copied by
then stay in the file, even if no row references them any more.
"""
