counts as (
    select (select count(*) from gone) as gone,
        (select coalesce(array_agg(id), '{}') from added) as added,
        (select count(*) from restated) as restated, (select count(*) from rebased) as rebased
)
select gone, added, restated, rebased from counts
