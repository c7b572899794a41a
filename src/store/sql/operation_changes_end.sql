counts as (
    select (select count(*) from gone) as gone, (select count(*) from added) as added,
        (select count(*) from restated) as restated, (select count(*) from rebased) as rebased
)
select gone, added, restated, rebased from counts
