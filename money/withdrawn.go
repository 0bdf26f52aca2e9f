package money

import "strings"

// Withdrawn reports whether ISO 4217 had c as a currency once, and has it no longer.
func (c Currency) Withdrawn() bool { return withdrawn[c] && !c.Valid() }

// withdrawn holds the codes of ISO's list three, "codes for historic denominations of
// currencies & funds", as of 2026-01-01, amendment 180 (the Bulgarian lev), less those that
// are in force again and those that never had a minor unit (XFO, XFU, XRE):
// https://www.six-group.com/en/products-services/financial-information/data-standards.html
var withdrawn = codes("ADP AFA ALK ANG AOK AON AOR ARA ARP ARY ATS AYM AZM BAD BEC BEF BEL BGJ BGK BGL BGN BOP BRB BRC BRE " +
	"BRN BRR BUK BYB BYR CHC CSD CSJ CSK CUC CYP DDM DEM ECS ECV EEK ESA ESB ESP FIM FRF GEK GHC GHP GNE " +
	"GNS GQE GRD GWE GWP HRD HRK IEP ILP ILR ISJ ITL LAJ LSM LTL LTT LUC LUF LUL LVL LVR MGF MLF MRO MTL " +
	"MTP MVQ MXP MZE MZM NIC NLG PEH PEI PES PLZ PTE RHD ROK ROL RUR SDD SDP SIT SKK SLL SRG STD SUR TJR " +
	"TMM TPE TRL UAK UGS UGW USS UYN UYP VEB VEF VNC XEU YDD YUD YUM YUN ZAL ZMK ZRN ZRZ ZWC " +
	"ZWD ZWL ZWN ZWR")

// withdrawnWithoutMinor are those of [withdrawn] whose minor unit was 0.
var withdrawnWithoutMinor = codes("ADP BEF BYR ESP GRD ITL LUF MGF PTE TPE TRL")

func codes(list string) map[Currency]bool {
	out := map[Currency]bool{}
	for code := range strings.FieldsSeq(list) {
		out[Currency(code)] = true
	}
	return out
}
