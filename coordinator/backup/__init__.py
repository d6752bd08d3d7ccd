"""A coordinator in one file: taken while it runs, restored into an empty place, whatever the database there is.

    archive      the file: a tar, what is in it, how it is written whole and read with distrust
    rows         one moment of a database, copied to another one of either kind
    saving       makes a backup
    restoring    makes a coordinator's data of it

Rows and bytes come apart. The rows are copied within one transaction, which is short; the bytes of blobs never change
once they are there, so they are copied after it, and where the running coordinator let go of some in between, the rows
are taken once more. Bytes that were copied by then stay in the file, also where nothing names them any more.
"""
