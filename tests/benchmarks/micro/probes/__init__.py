"""What is measured, as it runs in processes of its own. Each imports only what it measures."""
