"""The commands of ``nptp-opt``, one thin file each; these alone know option names."""
