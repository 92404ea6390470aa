"""What operators are alerted to: the rules, what fires and since when, and the delivery of messages."""
