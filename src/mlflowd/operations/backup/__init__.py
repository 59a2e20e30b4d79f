"""Backups: made, listed, checked, tried out and restored. restic keeps them (host/restic).

create makes one, repository finds them, manifest says what one holds, record what became of the last ones, check looks
for damage; verify and restore bring one back.
"""
