package kafka

import "fmt"

// ACL is what kafka-acls.sh grants a principal: one operation on one resource.
type ACL struct {
	Principal string
	// Operation is spelled as in kafka-acls.sh, such as Write.
	Operation string
	// Resource is what kafka-acls.sh calls it: topic, transactional-id or cluster.
	Resource string
	// Name is empty for the cluster. The name of a transactional id is a prefix.
	Name string
}

// String returns the command that grants it.
func (a ACL) String() string {
	command := fmt.Sprintf("kafka-acls.sh --add --allow-principal %s --operation %s", a.Principal, a.Operation)
	switch a.Resource {
	case "cluster":
		return command + " --cluster"
	case "transactional-id":
		return command + " --resource-pattern-type prefixed --transactional-id " + a.Name
	}
	return command + " --topic " + a.Name
}

// ACLs returns the rights of each principal, whose names begin with the prefix. They are for fenced
// delivery, which needs all that locked delivery needs. An API has no rights in Kafka. Read and
// Write imply Describe.
//
// Nothing is granted on all topics or all transactional ids: another installation on the cluster
// could be fenced with such a right.
func ACLs(topic, prefix string) (acls []ACL) {
	add := func(principal, resource, name string, operations ...string) {
		for _, o := range operations {
			acls = append(acls, ACL{"User:" + prefix + "_" + principal, o, resource, name})
		}
	}
	add("setup", "topic", topic, "Create", "Describe", "DescribeConfigs")
	add("sender", "topic", topic, "Read", "Write", "DescribeConfigs")
	add("operator", "topic", topic, "Read", "Alter", "DescribeConfigs")
	for _, principal := range []string{"sender", "operator"} {
		add(principal, "transactional-id", topic+"-", "Write")
		add(principal, "cluster", "", "ClusterAction")
	}
	return acls
}
