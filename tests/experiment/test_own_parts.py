"""Parts of the user's own by reference: found, hashed, and refused in one line."""

import hashlib
import sys

import pytest

from prune_jax.experiment.own import parts as own_parts


def refused(reference):
    with pytest.raises(ValueError, match=r"^model.name is ") as caught:
        own_parts.load_own(reference, "model.name")
    text = str(caught.value)
    assert "\n" not in text
    assert repr(reference) in text
    return text


def test_only_a_colon_makes_a_part_of_the_users_own():
    assert own_parts.is_own("my_parts:net")
    assert not own_parts.is_own("resnet8")


def test_a_function_and_the_hash_of_its_file(write, tmp_path):
    name = write("def net():\n    return 3\n")
    assert own_parts.load_own(f"{name}:net", "model.name")() == 3
    wanted = hashlib.sha256((tmp_path / "own" / f"{name}.py").read_bytes()).hexdigest()
    assert own_parts.source_of(f"{name}:net", "model.name") == wanted
    assert own_parts.source_of(f"{name}:net", "model.name") == wanted
    assert own_parts.stated({"model.name": f"{name}:net", "dataset.name": "digits"}) == {
        "model.name": {"name": f"{name}:net", "file": str(tmp_path / "own" / f"{name}.py"), "sha256": wanted}
    }


def test_a_module_in_a_package_is_found(write, tmp_path):
    (tmp_path / "own" / "parts_package").mkdir()
    (tmp_path / "own" / "parts_package" / "nets.py").write_text("def net():\n    return 4\n")
    assert own_parts.load_own("parts_package.nets:net", "model.name")() == 4
    for name in ("parts_package", "parts_package.nets"):
        sys.modules.pop(name)


def test_a_changed_file_is_read_anew_where_a_launch_begins(write):
    name = write("def net():\n    return 1\n")
    first = own_parts.source_of(f"{name}:net", "k")
    write("def net():\n    return 2\n", name)
    assert own_parts.load_own(f"{name}:net", "k")() == 1  # within a launch nothing changes
    assert own_parts.source_of_loaded(f"{name}:net", "k") == first
    second = own_parts.source_of(f"{name}:net", "k")
    assert second != first
    assert own_parts.load_own(f"{name}:net", "k")() == 2
    with pytest.raises(ValueError, match=f"^k is '{name}:net', whose file .*{name}.py is another .* restore"):
        own_parts.refuse_changed(f"{name}:net", "k", first)
    own_parts.refuse_changed(f"{name}:net", "k", second)


def test_a_module_that_other_code_imported_before_is_hashed_as_it_runs(write):
    name = write("def net():\n    return 1\n")
    __import__(name)
    write("def net():\n    return 2\n", name)
    own_parts.source_of(f"{name}:net", "k")
    assert own_parts.load_own(f"{name}:net", "k")() == 2


@pytest.mark.parametrize("reference", ["parts:", ":net", "a b:net", "a:b:c", "a..b:net"])
def test_a_malformed_reference(reference):
    assert "module:function, such as my_parts:small_cnn" in refused(reference)


def test_a_missing_module_says_where_to_put_it():
    assert "there is no module nowhere; put nowhere.py beside the config file" in refused("nowhere:net")
    assert "put no/where.py beside" in refused("no.where:net")


def test_a_missing_function_names_the_nearest(write):
    name = write("def small_cnn():\n    pass\n")
    assert f"has no 'smal_cnn'; did you mean {name}:small_cnn?" in refused(f"{name}:smal_cnn")
    assert "has no 'zebra'; write zebra there" in refused(f"{name}:zebra")


def test_a_name_that_python_finds_elsewhere_says_in_which_file(write):
    assert "random.py has no 'net'" in refused("random:net")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import not_there\n", "ModuleNotFoundError: No module named 'not_there' (NAME.py, line 1)"),
        ("x = 1\nx / 0\n", "ZeroDivisionError: division by zero (NAME.py, line 2)"),
        ("def net(:\n", "SyntaxError: invalid syntax (NAME.py, line 1)"),
        ("raise SystemExit('bye')\n", "SystemExit: bye (NAME.py, line 1)"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines (NAME.py, line 1)"),
    ],
)
def test_a_module_that_raises_on_import(write, text, told):
    name = write(text)
    assert f"importing {name} raised {told.replace('NAME', name)}; mend that file" in refused(f"{name}:net")


def test_what_cannot_be_called(write):
    name = write("net = 3\n")
    assert "which is of type int" in refused(f"{name}:net")


def test_code_without_a_file_has_no_hash(write):
    with pytest.raises(
        ValueError, match=r"^k is '__main__:net', but __main__ is no module with a file of its own"
    ):
        own_parts.source_of("__main__:net", "k")


def test_a_call_that_raises_names_key_value_and_line(write):
    name = write("def net(x):\n    return x['a']\n")
    function = own_parts.load_own(f"{name}:net", "k")
    with pytest.raises(
        ValueError, match=rf"^k is '{name}:net', which raised KeyError: 'a' \({name}.py, line 2\)$"
    ):
        own_parts.call_own(function, f"{name}:net", "k", {})


def test_a_function_is_given_what_it_names():
    offered = {"a": 1, "b": 2}
    assert own_parts.taken(lambda b: b, offered) == {"b": 2}
    assert own_parts.taken(lambda **named: named, offered) == offered
    assert own_parts.taken(lambda: 0, offered) == {}
