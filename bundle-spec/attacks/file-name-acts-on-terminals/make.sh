# Run in a copy of bundle/: makes what cannot be kept in a repository.
{ printf 'x'; } > "$(printf 'evil\033[2J')"
