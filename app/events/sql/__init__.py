"""Events in a database: the table, its migrations, the sink and the questions asked of it.

Everything here needs the extra ``tidegate[sql]``; nothing else imports it but where a sink of this kind is configured.
"""
