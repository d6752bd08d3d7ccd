"""Who is told what happened: waiting agents, watchers and engines of this process, and the other replicas."""
