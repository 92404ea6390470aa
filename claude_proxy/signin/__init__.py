"""Sign-in with `/login` of Claude Code: who signs in, the codes, the tokens and the keys."""
