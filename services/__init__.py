"""Reference microservices that can stand behind the gateway. None of them imports the gateway."""
