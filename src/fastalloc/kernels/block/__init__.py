"""bios, requests, SCSI commands and their completion."""
