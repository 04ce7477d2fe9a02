"""The gateway's own endpoints, served by FastAPI: generations, tickets, health, and their OpenAPI page."""
