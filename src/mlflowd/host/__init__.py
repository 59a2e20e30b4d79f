"""The machine: notify, journal, disk, files, ports, lock."""
