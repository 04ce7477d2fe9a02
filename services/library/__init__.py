"""Companies' documents: texts in passages, kept apart company by company, found by their words. Knows no service."""
