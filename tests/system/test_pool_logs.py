"""What a pool logs."""

import psycopg
import pytest

from harness.pools import join


@pytest.mark.parametrize("on", [1, 0])
def test_log_pooler_errors(pool, on):
    r = pool(main={"log_pooler_errors": on})
    with pytest.raises(psycopg.OperationalError):
        join(r, database="nowhere")
    with join(r):
        pass
    r.log.wait("session ended")
    assert len(r.log.find("client refused", reason="NO_DATABASE")) == on
