# Run in a copy of bundle/: makes what cannot be kept in a repository.
mkfifo signatures/b87403a1e66db4b38bb169f34eed01e2.sig
