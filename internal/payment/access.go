package payment

// Access is what a live API key gives access to.
type Access struct {
	Tenant Tenant
}
