"""The study `mitigate` and the parts that only it uses."""
