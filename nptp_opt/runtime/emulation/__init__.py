"""Links and speeds of other machines, on this one."""
