"""The team's Claude credentials, and what an answer says about one."""
