"""Passwords of addresses, in whatever text they stand: masked, and nothing else changed."""

from __future__ import annotations

import json
import shlex
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.addresses import resolved, told
from memberscope.errors import UserError
from memberscope.redact import redact, redact_values, secrets_of

PASSWORD = "Zx9-planted"
ADDRESSES = {
    f"postgresql://ms:{PASSWORD}@db.example/runs": "postgresql://ms:***@db.example/runs",
    f"postgresql+psycopg://ms:{PASSWORD}@127.0.0.1:5432/runs": "postgresql+psycopg://ms:***@127.0.0.1:5432/runs",
    f"mysql+pymysql://ms@server:{PASSWORD}@server.mysql.example/runs": "mysql+pymysql://ms@server:***@server.mysql.example/runs",
    f"redis://:{PASSWORD}@host:6379/0": "redis://:***@host:6379/0",
    f"https://me:{PASSWORD}@host:5000": "https://me:***@host:5000",
    f"http://me:{PASSWORD}@[::1]:5000/x": "http://me:***@[::1]:5000/x",
    f"postgresql://ms:a%40b%2F{PASSWORD}@h/d": "postgresql://ms:***@h/d",
    f"postgresql://ms:p@ss/w#rd?{PASSWORD}@h/d": "postgresql://ms:***@h/d",
    f"postgresql://ms:12/{PASSWORD}@h/d": "postgresql://ms:***@h/d",
    f"postgresql://ms:{PASSWORD}@h/d?application_name=me@here": "postgresql://ms:***@h/d?application_name=me@here",
    f"postgresql://h/d?user=ms&password={PASSWORD}&options=-csearch_path%3Doptuna": "postgresql://h/d?user=ms&password=***&options="
    "-csearch_path%3Doptuna",
    f"postgresql://h/d?sslmode=verify-full&sslpassword={PASSWORD};x": "postgresql://h/d?sslmode=verify-full&sslpassword=***",
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3D{PASSWORD}": "mssql+pyodbc:///?odbc_connect=***",
    f"wasbs://box@acct.blob.core.windows.net/a?sv=1&sig={PASSWORD}&se=2": "wasbs://box@acct.blob.core.windows.net/a?sv=1&sig=***&se=2",
    f"s3://bucket/key?X-Amz-Signature={PASSWORD}": "s3://bucket/key?X-Amz-Signature=***",
    f"s3://AKIA:{PASSWORD}@bucket/key": "s3://AKIA:***@bucket/key",
    f"tls://me:{PASSWORD}@10.0.0.1:8786": "tls://me:***@10.0.0.1:8786",
    f"https://host/x?access_token={PASSWORD}#top": "https://host/x?access_token=***",
    f"https://{PASSWORD}0123456789abcdef@host/repo.git": "https://***@host/repo.git",
}
ORDINARY = [
    "", "epochs=40,width=2", "C:\\Users\\me@home\\mlflow.db", "C:/Users/a:b@c/x.npz", "sqlite:////tmp/a:b@c/mlflow.db", "file:///C:/a:b@c",
    "http://127.0.0.1:5000/#/experiments/1/runs/ab?workflowType=machine_learning", "http://host:5000/models/name@champion",
    "postgresql://ms@127.0.0.1/memberscope?options=-csearch_path%3Doptuna", "models:/name@alias", "runs:/0123/model",
    "tcp://HOST:PORT of a running Dask scheduler, or nothing", "see http://host:80/ and mail me@example.org", "a: b@c, d = 3; e=4",
    "git@github.com:me/repo.git", "https://me@host/repo.git", "s3://bucket/a:b@c", "tokens: 5 & passwords", "x = f(password=None)",
    "abfss://box@acct.dfs.core.windows.net/path", "mlflow ui --backend-store-uri 'sqlite:////tmp/x y.db'", "max_tokens=5", "password=",
]  # fmt: skip


@pytest.mark.parametrize(("address", "shown"), ADDRESSES.items(), ids=[*range(len(ADDRESSES))])
def test_an_address_keeps_all_but_its_password_alone_and_in_any_text(address: str, shown: str) -> None:
    assert redact(address) == shown
    for text in (
        f"storage={address}: does not answer",
        f"at {address}, or",
        f'{{"uri": "{address}", "mail": "a@b.c"}}',
        f"`{address}`",
    ):
        masked = redact(text)
        assert PASSWORD not in masked
        assert redact(masked) == masked
        assert masked.endswith((text[-1:], "***")), masked
    assert json.loads(redact(json.dumps({"uri": address, "mail": "a@b.c"})))["mail"] == "a@b.c"
    option = f"--storage={address}"
    assert redact(option) == f"--storage={shown}"


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text
    assert redact(f"before {text}\nafter {text} it") == f"before {text}\nafter {text} it"


def test_several_addresses_in_a_line_are_masked_each() -> None:
    line = "a://u:one@h,b://v:two@i c://w:three@j/k?token=four&x=1 https://z:80/five"
    assert redact(line) == "a://u:***@h,b://v:***@i c://w:***@j/k?token=***&x=1 https://z:80/five"


def test_passwords_with_spaces_and_quotes() -> None:
    odd = 'postgresql://ms:it\'s "a" pass word@h/d'
    assert redact(odd) == "postgresql://ms:***@h/d"
    for text in (f"storage={odd}: no", shlex.join(["memberscope", "--storage", odd]), json.dumps({"a": odd, "b": 1})):
        assert "word" not in redact(text)
        assert "it's" not in redact(text)


def test_connection_strings_and_headers() -> None:
    assert redact("host=h user=u password=one dbname=d") == "host=h user=u password=*** dbname=d"
    assert redact("Server=h;Uid=u;Pwd={on;e};Port=1") == "Server=h;Uid=u;Pwd=***;Port=1"
    assert redact("AccountName=n;AccountKey=one==;x=1") == "AccountName=n;AccountKey=***;x=1"
    assert redact("{'Authorization': 'Basic b25l'}") == "{'Authorization': 'Basic ***'}"


def test_fragments_of_a_known_address_are_masked_in_what_others_say_of_it() -> None:
    address = "postgresql://ms:p%40ss-one/two-three@h/d"
    said = "Port could not be cast to integer value as 'p%40ss-one'; also p@ss-one/two-three and two-three, not twos"
    assert redact(said, about=[address]) == "Port could not be cast to integer value as '***'; also *** and ***, not twos"
    assert secrets_of("sqlite:////tmp/x.db") == secrets_of("http://h:5000") == secrets_of("plain text") == set()


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=12),
    st.sampled_from(["postgresql", "https"]),
)
def test_no_password_survives_in_an_address_of_its_own(tail: str, scheme: str) -> None:
    address = f"{scheme}://user:zqj{tail}zqj@host.example/db"
    masked = redact(address)
    if "://" not in tail:
        assert masked == f"{scheme}://user:***@host.example/db" or "?" in tail
    assert redact(masked) == masked
    assert "zqj" not in masked or "?" in tail or "://" in tail


@given(st.text(max_size=200))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_nested_values_and_large_texts() -> None:
    assert redact_values({"a": ["x://u:p@h", 3, None], "b": {"c": ("y", 1.5)}}) == {
        "a": ["x://u:***@h", 3, None],
        "b": {"c": ["y", 1.5]},
    }


def test_twice_the_text_takes_about_twice_the_time() -> None:
    """No pattern looks at the rest of the text again from every place, which would take 64 times as long for 8 times the text."""

    def seconds(n: int) -> float:
        text = "data:image/png;base64," + "iVBORw0KGgo+/abc=" * n + " http://h:5000/ " + "w" * n
        start = time.process_time()
        assert redact(text) == text
        return time.process_time() - start

    short, long = (min(seconds(n) for _ in range(3)) for n in (25_000, 200_000))
    assert 2 < long / short < 24


def test_an_error_of_the_user_never_holds_a_password() -> None:
    error = UserError("storage=postgresql://ms:planted@h/d: does not answer")
    assert str(error) == "storage=postgresql://ms:***@h/d: does not answer"


def test_an_address_may_be_in_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DB", "postgresql://ms:planted@h/d")
    assert resolved("storage", "env:MY_DB") == "postgresql://ms:planted@h/d"
    assert resolved("storage", "sqlite:///x.db") == "sqlite:///x.db"
    for wrong in ("env:NONE_OF_MINE", "env:", "env:a b"):
        with pytest.raises(UserError, match=f"^storage={wrong}: no environment variable"):
            resolved("storage", wrong)
    assert (
        told("no postgresql://ms:planted@h/d there", given="env:MY_DB", address="postgresql://ms:planted@h/d")
        == "no env:MY_DB there"
    )
