"""Prints the JSON Schema of every command's ``--json``."""

from nptp_opt.commands.json_output import schema_text

if __name__ == "__main__":
    print(schema_text(), end="")
