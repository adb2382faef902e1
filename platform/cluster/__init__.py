"""Jobs on a Ray cluster: its client, what a job takes along, its log and its end."""
