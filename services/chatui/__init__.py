"""What a chat's page keeps and asks: conversations, messages, prompts, documents, settings, and the chat itself."""
