"""What all commands share: flags, error messages, exit codes, the compilation cache."""
