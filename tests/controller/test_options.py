from dataclasses import fields

from virt_preflight.controller.options import (
    FLAGS,
    UNASKED,
    VALUED,
    MigrationOptions,
    flags_given,
    names_given,
    values_given,
)
from virt_preflight.v1 import guest_pb2


def test_every_option_of_the_treaty_is_an_option_here() -> None:
    ours = {field.name for field in fields(MigrationOptions)} - {"xml_file"}
    assert ours == {*guest_pb2.MigrationOptions.DESCRIPTOR.fields_by_name, *UNASKED}
    assert ours == {*FLAGS, *VALUED}


def test_options_are_spelt_as_virsh_spells_them() -> None:
    options = MigrationOptions(copy_storage_all=True, auto_converge=True)
    assert flags_given(options) == ("copy-storage-all", "auto-converge")


def test_a_file_stands_for_the_xml_in_it() -> None:
    options = MigrationOptions(xml=b"<domain/>", xml_file="new.xml", migrate_disks=("vda", "vdb"))
    assert values_given(options) == (("migrate-disks", "vda,vdb"), ("xml", "new.xml"))


def test_names_given_are_flags_first_and_values_after_an_equals_sign() -> None:
    options = MigrationOptions(live=True, p2p=True, dname="db2")
    assert names_given(options) == ("live", "p2p", "dname=db2")
