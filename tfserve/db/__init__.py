"""What is durable: workspaces, jobs and deployments. The supervisor writes them, everybody else only reads."""
