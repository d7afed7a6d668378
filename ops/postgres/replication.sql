-- What a streaming replica needs of its primary. May be run again.
\getenv password REPLICATION_PASSWORD
SELECT 'CREATE ROLE replicator LOGIN REPLICATION'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replicator') \gexec
ALTER ROLE replicator PASSWORD :'password';
SELECT pg_create_physical_replication_slot('replica')
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'replica');
