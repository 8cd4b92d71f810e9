-- A payment that is sent leaves a dead entry at the very beginning of payments_unsent, where every claim begins to look. By default vacuum comes after a fifth of the table (of 100 million rows: millions of
-- dead entries, 770 pages and 2 ms of each look for every 200,000 of them in a partition), and then leaves the indexes out while dead rows are on less than 2 % of its pages. Here it comes
-- after 200,000 and a thousandth, which is also how much of the table lies dead, and always cleans the indexes. Nothing else depends on it.
alter table payments set (autovacuum_vacuum_threshold = 200000, autovacuum_vacuum_scale_factor = 0.001, vacuum_index_cleanup = on);

---- create above / drop below ----

alter table payments reset (autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor, vacuum_index_cleanup);
