# Run in a copy of bundle/: makes what cannot be kept in a repository.
{ head -c 1000000 /dev/zero | tr '\000' '['; } > 'blobs/sha256/71b47d2ef2b79d078304e4dc1d7e1efd04569ea2a4948be9430a230f1afd0ad8'
